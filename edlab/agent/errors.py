"""The agent's own errors, which reach the host with their mend."""


class AgentError(Exception):
    """What failed (`message`) and what to do (`hint`)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class FixedBatchError(AgentError):
    """The model takes no batch but its own."""
