"""`Work`: which piece of work a call does, however often it is tried."""

from __future__ import annotations

import msgspec


class Work(msgspec.Struct, frozen=True, array_like=True):
    """Names a piece of work by its first attempt.

    Attributes:
        branch: Number of the run's branch.
        step: The superstep.
        executor_id: The executor, by path.
        call: Which of the executor's calls in the superstep.
    """

    branch: int
    step: int
    executor_id: str
    call: str

    def key(self, run_id: str, incarnation: str) -> str:
        """Return the text that names this piece of work of a run, and no other one of any run.

        It has the form of a UUID, which every service takes that takes such keys. Runs that earlier
        versions of the library began keep the keys that they had.

        Args:
            run_id: The run.
            incarnation: What tells it from others of the same id.
        """
        if not incarnation:
            return f"{run_id}:{self.branch}:{self.step}:{self.executor_id}:{self.call}"
        from hashlib import blake2b  # wanted only by those who ask

        # A JSON array: parts that hold the character between them cannot be taken for other parts.
        named = msgspec.json.encode((incarnation, run_id, self))
        text = blake2b(named, digest_size=16, person=b"idempotency").hexdigest()
        # Version 8 of RFC 9562: the content is the program's own.
        variant = "89ab"[int(text[16], 16) & 3]
        return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
