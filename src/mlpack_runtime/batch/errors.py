"""Why a batch cannot go on, as one type that says who can mend it."""


class BatchError(RuntimeError):
    """The batch cannot go on. What was written stays, and a later run goes on from there.

    `status`: the process's exit status: 2 the manifest or what was asked for is wrong, 3 the package fails, 4 a service fails.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_final(self) -> bool:
        """Whether to run the same batch again would change nothing."""
        return self.status == 2
