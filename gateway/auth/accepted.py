"""Tokens whose signatures were found good, so that the next request with one need not look again.

What is remembered is that this very text, by its digest, was signed with a key of this very set and
says these claims. Everything that can change is asked again each time, by whoever asks here: the
time, the audience, the revocation. A refusal is never remembered, and neither is a token's text.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from gateway.auth.keyring import KeySet

if TYPE_CHECKING:
    from gateway.auth.tokens import Claims


class AcceptedTokens:
    """The `most` that were asked for last, of one set of keys: with the next set it is empty."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: KeySet | None = None
        self._claims: OrderedDict[bytes, Claims] = OrderedDict()

    def __len__(self) -> int:
        return len(self._claims)

    def get(self, digest: bytes, keys: KeySet) -> Claims | None:
        if keys is not self._keys:
            return None
        claims = self._claims.get(digest)
        if claims is not None:
            self._claims.move_to_end(digest)
        return claims

    def keep(self, digest: bytes, claims: Claims, keys: KeySet) -> None:
        if keys is not self._keys:
            self._claims.clear()
            self._keys = keys
        self._claims[digest] = claims
        if len(self._claims) > self._most:
            self._claims.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        self._claims.pop(digest, None)
