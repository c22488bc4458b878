"""The GraphiQL page and its files, all from this server.

The files are those of the packages graphiql 3.8.3, react 18.2.0 and react-dom 18.2.0, unchanged.
Their names hold their versions, so that a browser may keep them for ever.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio

from gateway.graphql.requests import HTML, BadRequest
from gateway.http import Exchange

_ASSETS = Path(__file__).parent / "assets"
_PREFIX = "/assets/"
_SCRIPTS = ("react-18.2.0.min.js", "react-dom-18.2.0.min.js", "graphiql-3.8.3.min.js")
_STYLE = "graphiql-3.8.3.min.css"
_TYPES = dict.fromkeys(_SCRIPTS, "text/javascript; charset=utf-8") | {
    _STYLE: "text/css; charset=utf-8"
}
_FOR_EVER = (b"cache-control", b"public, max-age=31536000, immutable")
_AS_DECLARED = (b"x-content-type-options", b"nosniff")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AgentIdP</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">
<style nonce="{nonce}">html, body, #graphiql {{ height: 100%; margin: 0 }}</style>
</head>
<body>
<div id="graphiql"></div>
{scripts}
<script nonce="{nonce}">
ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, {{
    fetcher: GraphiQL.createFetcher({{ url: location.origin + location.pathname }}),
    defaultQuery: `# A token goes into the headers below:
# {{ "Authorization": "Bearer ..." }}
{{
  viewer {{ agentId email capabilities }}
}}
`,
    shouldPersistHeaders: false,
  }}),
);
</script>
</body>
</html>
"""


async def answer(exchange: Exchange, path: str) -> None:
    """The page at the empty path, its files below. Raises BadRequest."""
    if path:
        await _file(exchange, path.removeprefix(_PREFIX) if path.startswith(_PREFIX) else "")
    else:
        await _page(exchange)


async def _file(exchange: Exchange, name: str) -> None:
    content_type = _TYPES.get(name)
    if content_type is None:
        raise BadRequest("there is no such file", 404)
    if exchange.method != "GET":
        raise BadRequest("a file is asked for with GET", 405, [(b"allow", b"GET")])
    content = await anyio.Path(_ASSETS / name).read_bytes()
    await exchange.respond(200, content, content_type, [_FOR_EVER, _AS_DECLARED])


async def _page(exchange: Exchange) -> None:
    nonce = secrets.token_urlsafe(16)
    scripts = "\n".join(
        f'<script nonce="{nonce}" src="/graphql{_PREFIX}{name}"></script>' for name in _SCRIPTS
    )
    page = _PAGE.format(nonce=nonce, scripts=scripts, style=f"/graphql{_PREFIX}{_STYLE}")
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = [
        (b"cache-control", b"no-store"),
        (b"content-security-policy", policy.encode()),
        (b"referrer-policy", b"no-referrer"),
        _AS_DECLARED,
    ]
    await exchange.respond(200, page.encode(), f"{HTML}; charset=utf-8", headers)
