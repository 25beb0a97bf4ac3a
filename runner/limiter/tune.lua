-- Sets a lane's number of calls at once and begins a new epoch, unless somebody else just did.
--
-- KEYS[1]  hash    the lane's state
-- ARGV[1]  integer the number of the epoch that was judged
-- ARGV[2]  integer calls at once from now on
-- ARGV[3]  string  what the controller remembers
-- ARGV[4]  integer only in tests: the time to believe instead of Redis's own, in microseconds
-- Returns  1 when it was set, 0 when that epoch is over

if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') ~= tonumber(ARGV[1]) then return 0 end
local now = ARGV[4]
if not now then
  local time = redis.call('TIME')
  now = string.format('%.0f', time[1] * 1000000 + time[2])
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1] + 1, 'conc', ARGV[2], 'knee', ARGV[3], 'e_since', now,
  'e_done', 0, 'e_work', 0, 'e_errors', 0, 'e_slow', 0, 'e_peak', 0)
return 1
