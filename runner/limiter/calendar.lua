-- The calendar of one lane: when its next calls may start, for every process of the fleet at once.
--
-- KEYS[1]  hash    the lane's state (fields below)
-- KEYS[2]  hash    slot number -> "requests tokens": what was granted to start within that slot
-- KEYS[3]  hash    process -> "seq expiry_us waiting in_flight allowed oldest_us"
-- ARGV[1]  JSON    the question; times in microseconds of Redis's clock, absent means none
--   now_us         only in tests: the time to believe instead of Redis's own
--   process, seq   who asks; a report with a seq that was heard before is not counted again
--   window_us, jitter_us, slot_us, credit_us, horizon_us, probe_us
--   requests, tokens    the limits of one window
--   calls               the most calls at once
--   adaptive            true: nobody has said what the server bears; it is found out (conc, knee, e_*)
--   waiting, in_flight, oldest_us (age of the oldest waiter), ahead_us (granted, not started)
--   told_requests, told_tokens      the provider's word on its limits of one window
--   settled   [[start_us, requests, tokens], ...]   corrections of what was granted
--   outcomes  [[kind, start_us, retry_after_us], ...]   kind: ok, failed, refused, slow
--   done, work                      of calls that were answered since the last report
--   wishes    [tokens, ...]         first come first served
-- Returns   [now_us, JSON of the reply]; times in the reply are distances from now_us
--
-- Two dimensions at once. Pacing (generic cell rate) lets starts follow each other evenly, with
-- `credit_us` to catch up; a rolling log of slots makes the promise strict: no window of
-- window + jitter holds more than the limits, however grants, corrections and refunds interleave.
-- Starts never go back. A call larger than what is left waits until enough has left the window,
-- and everybody behind it waits too: nobody starves.

local FULL = 1000000            -- the factor by which limits are cut, in millionths
local CUT, CUT_MOST = 0.985, 0.5 -- at least and at most, each time
local LEAST = 20000             -- however often it was cut
local BELOW_SEEN = 0.985        -- of what the provider let through in its last window
local GROW = 5000               -- half a hundredth of the limit a window, soon more
local RUN_LEAST, RUN_MOST = 5, 20 -- failures in succession that open the breaker
local CREW_US = 5000000         -- a process that has not asked for so long is gone
local SPARE = 16                -- places for calls that begin between two questions
local KEPT_MS = 86400000

local state_key, slots_key, crew_key = KEYS[1], KEYS[2], KEYS[3]
local ask = cjson.decode(ARGV[1])
local now = ask.now_us
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local span = ask.window_us + ask.jitter_us

local function int(number) return string.format('%.0f', number) end

local FIELDS = {
  'last', 'rtat', 'ttat', 'tail', 'swept', 'reqs', 'toks', 'paused', 'factor', 'cut', 'grown',
  'told_r', 'told_t', 'run', 'run_since', 'open', 'probe', 'slowed', 'conc', 'epoch',
  'e_done', 'e_work', 'e_errors', 'e_slow', 'e_peak', 'e_since',
  'granted', 'granted_tokens', 'refused', 'refused_at', 'failed', 'ok',
}

-- paces begin without credit: no burst may follow what was forgotten
local function pace_anew(state)
  state.rtat, state.ttat = now + ask.credit_us, now + ask.credit_us
end

local function born()
  redis.call('DEL', slots_key)
  local new = {}
  for _, name in ipairs(FIELDS) do new[name] = 0 end
  pace_anew(new)
  new.tail = math.floor(now / ask.slot_us)
  new.swept = new.tail
  new.factor, new.e_since = FULL, now
  return new
end

-- the log in slots of another size, for the window was set anew
local function resize(state, old_slot_us)
  local packed = redis.call('HGETALL', slots_key)
  redis.call('DEL', slots_key)
  local sums, tail = {}, math.floor(now / ask.slot_us)
  state.reqs, state.toks = 0, 0
  for place = 1, #packed, 2 do
    local slot = math.floor((packed[place] + 0.5) * old_slot_us / ask.slot_us)
    local requests, tokens = packed[place + 1]:match('^(%d+) (%d+)$')
    local sum = sums[slot] or {0, 0}
    sums[slot] = {sum[1] + requests, sum[2] + tokens}
    state.reqs, state.toks = state.reqs + requests, state.toks + tokens
    tail = math.min(tail, slot)
  end
  for slot, sum in pairs(sums) do
    redis.call('HSET', slots_key, int(slot), int(sum[1]) .. ' ' .. int(sum[2]))
  end
  state.tail, state.swept = tail, tail
  pace_anew(state)
end

local function read_state()
  local raw = redis.call('HMGET', state_key, unpack(FIELDS))
  if not raw[1] then return born() end
  local read = {}
  for place, name in ipairs(FIELDS) do read[name] = tonumber(raw[place]) or 0 end
  -- no start is ever promised that far ahead: Redis's clock was set back
  if read.last > now + 3 * span then
    local new = born()
    new.factor = read.factor
    return new
  end
  local old_slot_us = tonumber(redis.call('HGET', state_key, 'slot'))
  if old_slot_us and old_slot_us ~= ask.slot_us then resize(read, old_slot_us) end
  return read
end

local s = read_state()

-------------------------------------------------------------------------------- limits

local function grow()
  if s.factor >= FULL then return end
  local windows = math.floor((now - s.cut) / ask.window_us)
  while s.grown < windows and s.factor < FULL do
    s.grown = s.grown + 1
    s.factor = math.min(FULL, s.factor + GROW * math.max(1, s.grown - 2))
  end
end

local function smaller(limit, told)
  if told > 0 and (not limit or told < limit) then return told end
  return limit
end

if ask.told_requests then s.told_r = ask.told_requests end
if ask.told_tokens then s.told_t = ask.told_tokens end
local most_requests = smaller(ask.requests, s.told_r)
local most_tokens = smaller(ask.tokens, s.told_t)

local function cut_down(limit)
  return limit and math.max(1, math.floor(limit * s.factor / FULL))
end

-------------------------------------------------------------------------------- the log

local function slot_of(time_us) return math.floor(time_us / ask.slot_us) end

local function read_slot(slot)
  local packed = redis.call('HGET', slots_key, int(slot))
  if not packed then return 0, 0 end
  local requests, tokens = packed:match('^(%d+) (%d+)$')
  return tonumber(requests), tonumber(tokens)
end

local function write_slot(slot, requests, tokens)
  redis.call('HSET', slots_key, int(slot), int(requests) .. ' ' .. int(tokens))
end

-- how much of the calendar an amount takes; what is larger than a (cut) limit takes one span
local function pace(amount, limit)
  if not limit then return 0 end
  return math.max(-span, math.min(span, amount * span / limit))
end

local function correct(start_us, requests, tokens)
  local slot = slot_of(start_us)
  if slot < s.tail then return end -- has left the window
  local had_requests, had_tokens = read_slot(slot)
  local now_requests = math.max(0, had_requests + requests)
  local now_tokens = math.max(0, had_tokens + tokens)
  write_slot(slot, now_requests, now_tokens)
  s.reqs = math.max(0, s.reqs + now_requests - had_requests)
  s.toks = math.max(0, s.toks + now_tokens - had_tokens)
  s.rtat = s.rtat + pace(requests, cut_down(most_requests))
  s.ttat = s.ttat + pace(tokens, cut_down(most_tokens))
end

-- what was let through in the window that ends now, as parts of the limits; the larger part
local function part_seen()
  local from, to = slot_of(now - ask.window_us), slot_of(now)
  local requests, tokens = 0, 0
  local packed = redis.call('HGETALL', slots_key)
  for place = 1, #packed, 2 do
    local slot = tonumber(packed[place])
    if slot >= from and slot <= to then
      local some_requests, some_tokens = packed[place + 1]:match('^(%d+) (%d+)$')
      requests, tokens = requests + some_requests, tokens + some_tokens
    end
  end
  local seen = 0
  if most_requests then seen = math.max(seen, requests / most_requests) end
  if most_tokens then seen = math.max(seen, tokens / most_tokens) end
  return seen
end

-------------------------------------------------------------------------------- the report

local opened = false

local function cut()
  local seen = part_seen() * FULL
  s.factor = math.max(CUT_MOST * s.factor, math.min(CUT * s.factor, BELOW_SEEN * seen))
  s.factor = math.max(LEAST, math.floor(s.factor))
  s.cut, s.grown = now, 0
end

local function hear_refusal(start_us, retry_after_us)
  s.refused, s.refused_at = s.refused + 1, now
  s.paused = math.max(s.paused, now + retry_after_us)
  -- calls whose start was given before the last cut belong to its episode
  if (most_requests or most_tokens) and start_us >= s.cut + ask.horizon_us then cut() end
  s.e_errors = s.e_errors + 1
end

local function hear_slow_down(retry_after_us)
  s.refused, s.refused_at = s.refused + 1, now
  s.paused = math.max(s.paused, now + retry_after_us)
  s.slowed = 1
  s.e_slow = s.e_slow + 1
end

local function hear_failure(crew_size)
  s.failed = s.failed + 1
  -- one that is out is not overloaded: how much it bears is not forgotten over an outage
  s.e_errors = s.open > 0 and 0 or s.e_errors + 1
  if s.run == 0 then s.run_since = now end
  s.run = s.run + 1
  local enough = math.max(RUN_LEAST, math.min(RUN_MOST, crew_size))
  if s.open == 0 and s.run >= enough then
    s.open, s.probe, opened, s.e_errors = now, now + ask.probe_us, true, 0
  end
end

local function hear_success(start_us)
  s.ok = s.ok + 1
  if s.open == 0 or start_us >= s.open then s.run, s.open = 0, 0 end
end

local function hear(crew_size)
  for _, one in ipairs(ask.settled or {}) do correct(one[1], one[2], one[3]) end
  for _, one in ipairs(ask.outcomes or {}) do
    if one[1] == 'ok' then hear_success(one[2])
    elseif one[1] == 'failed' then hear_failure(crew_size)
    elseif one[1] == 'refused' then hear_refusal(one[2], one[3])
    elseif one[1] == 'slow' then hear_slow_down(one[3]) end
  end
  s.e_done = s.e_done + (ask.done or 0)
  s.e_work = s.e_work + (ask.work or 0)
end

-------------------------------------------------------------------------------- the crew

-- everybody's weight and allowance, my own apart; forgets who is gone
local function read_crew()
  local found = {waiting = 0, in_flight = 0, allowed = 0, seq = -1, mine = 0, starving_us = 0}
  local packed = redis.call('HGETALL', crew_key)
  for place = 1, #packed, 2 do
    local name = packed[place]
    local seq, expiry, waiting, in_flight, allowed, oldest =
      packed[place + 1]:match('^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
    if name == ask.process then
      found.seq, found.mine = tonumber(seq), tonumber(allowed)
    elseif tonumber(expiry) < now then
      redis.call('HDEL', crew_key, name)
    else
      found.waiting = found.waiting + waiting
      found.in_flight = found.in_flight + in_flight
      found.allowed = found.allowed + allowed
      if tonumber(allowed) == 0 and tonumber(waiting) > 0 then
        local since_us = now - (expiry - CREW_US)
        found.starving_us = math.max(found.starving_us, oldest + since_us)
      end
    end
  end
  return found
end

local crew = read_crew()
if ask.seq > crew.seq then hear(crew.waiting + crew.in_flight + ask.waiting + ask.in_flight) end
grow()
-- the search for what a server bears: where nobody has said it, or it said that we ramp too fast
local searching = s.slowed == 1 or (ask.adaptive and not most_requests and not most_tokens)
s.e_peak = math.max(s.e_peak, crew.in_flight + ask.in_flight)

local mine = ask.waiting + ask.in_flight
local everyone = mine + crew.waiting + crew.in_flight
local share = everyone > 0 and mine / everyone or 0

-- how many calls this process may have under way; nil: as many as it likes. It starts none while
-- it asks, so that what it has under way is all that others must leave to it.
local function allowance()
  local calls = ask.calls
  -- until somebody has begun the search, one call at a time
  if searching then calls = smaller(calls, math.max(1, s.conc)) end
  if not calls then return nil end
  -- its share, and no more than it can use until it asks again
  local wanted = math.min(math.ceil(share * calls), mine + SPARE)
  -- one that got nothing and has waited longer goes first
  if crew.starving_us > ask.oldest_us then wanted = math.min(wanted, ask.in_flight - 1) end
  return math.max(0, math.min(wanted, calls - crew.allowed))
end

local allowed = allowance()
if mine > 0 then
  redis.call('HSET', crew_key, ask.process, table.concat({
    int(ask.seq), int(now + CREW_US), int(ask.waiting), int(ask.in_flight),
    int(math.max(ask.in_flight, allowed or 0)), int(ask.oldest_us),
  }, ' '))
else
  -- remembered for its seq alone: a repeated report must not count twice
  redis.call('HSET', crew_key, ask.process, int(ask.seq) .. ' ' .. int(now + CREW_US) .. ' 0 0 0 0')
end

-------------------------------------------------------------------------------- starts

local requests_max, tokens_max = cut_down(most_requests), cut_down(most_tokens)

-- the earliest start of a call of `tokens`, and the window as it is then; changes nothing
local function earliest(tokens)
  local start = math.max(now, s.last)
  if requests_max then start = math.max(start, s.rtat - ask.credit_us) end
  if tokens_max then start = math.max(start, s.ttat - ask.credit_us) end
  local tail, reqs, toks = s.tail, s.reqs, s.toks
  local newest = slot_of(math.max(now, s.last) + span)
  local function leave()
    local requests, some = read_slot(tail)
    reqs, toks, tail = reqs - requests, toks - some, tail + 1
    if tail > newest then reqs = 0 end -- counts of slots that are not there
  end
  while reqs > 0 and (tail + 1) * ask.slot_us <= start - span do leave() end
  while reqs > 0 and ((requests_max and reqs + 1 > requests_max)
      or (tokens_max and toks + tokens > tokens_max)) do
    start = math.max(start, (tail + 1) * ask.slot_us + span)
    leave()
  end
  if reqs <= 0 then tail, reqs, toks = slot_of(start), 0, 0 end
  return math.ceil(start), tail, reqs, toks
end

-- what has left the window is kept until it is that old by the clock too: a cut looks at it
local function sweep()
  local to = math.min(s.tail, slot_of(now - ask.window_us))
  if to - s.swept > 1000 then -- a gap of any length: only what is there is removed
    for _, slot in ipairs(redis.call('HKEYS', slots_key)) do
      if tonumber(slot) < to then redis.call('HDEL', slots_key, slot) end
    end
  else
    for slot = s.swept, to - 1 do redis.call('HDEL', slots_key, int(slot)) end
  end
  s.swept = math.max(s.swept, to)
end

local function grant(tokens)
  local start, tail, reqs, toks = earliest(tokens)
  local slot = slot_of(start)
  local had_requests, had_tokens = read_slot(slot)
  write_slot(slot, had_requests + 1, had_tokens + tokens)
  s.tail, s.reqs, s.toks, s.last = tail, reqs + 1, toks + tokens, start
  local of_request, of_tokens = pace(1, requests_max), pace(tokens, tokens_max)
  s.rtat = math.max(s.rtat, start) + of_request
  s.ttat = math.max(s.ttat, start) + of_tokens
  s.granted, s.granted_tokens = s.granted + 1, s.granted_tokens + tokens
  return start, math.max(of_request, of_tokens)
end

local starts, costs = {}, {}
local function give(tokens)
  local start, cost = grant(tokens)
  starts[#starts + 1], costs[#costs + 1] = start - now, math.ceil(cost)
  return cost
end

local wishes = ask.wishes or {}
if s.open > 0 then
  s.probe = math.min(s.probe, now + ask.probe_us) -- a clock that was set back
  if now >= s.probe and now >= s.paused and #wishes > 0 then
    give(wishes[1])
    s.probe = now + ask.probe_us
  end
elseif now >= s.paused then
  local room = share * ask.horizon_us - ask.ahead_us
  local places = allowed and allowed - ask.in_flight or #wishes
  for place, tokens in ipairs(wishes) do
    local first = place == 1 and ask.ahead_us == 0
    if place > places or s.last > now + ask.horizon_us or (room <= 0 and not first) then break end
    room = room - give(tokens)
  end
end

-------------------------------------------------------------------------------- the end

sweep()
local flat = {}
for _, name in ipairs(FIELDS) do
  flat[#flat + 1], flat[#flat + 2] = name, int(s[name])
end
redis.call('HSET', state_key, 'limit_r', int(ask.requests or 0), 'limit_t', int(ask.tokens or 0),
  'limit_c', int(ask.calls or 0), 'window', int(ask.window_us), 'slot', int(ask.slot_us),
  unpack(flat))
redis.call('PEXPIRE', state_key, KEPT_MS)
redis.call('PEXPIRE', slots_key, KEPT_MS)
redis.call('PEXPIRE', crew_key, KEPT_MS)

local reply = {
  starts = starts,
  costs = costs,
  paused_us = math.max(0, s.paused - now),
  open = s.open > 0,
  probe_us = s.open > 0 and math.max(0, s.probe - now) or 0,
  opened = opened,
  run_us = s.run > 0 and now - s.run_since or 0,
  allowed = allowed,
  paced = (most_requests or most_tokens) and true or false,
}
if searching then
  reply.epoch = {
    number = s.epoch, done = s.e_done, work = s.e_work,
    errors = s.e_errors, slow = s.e_slow, peak = s.e_peak, elapsed_us = now - s.e_since,
    limit = s.conc, knee = redis.call('HGET', state_key, 'knee') or '',
  }
end
return {int(now), cjson.encode(reply)}
