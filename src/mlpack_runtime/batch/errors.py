"""Why a batch cannot go on, as one type that says who can mend it."""


class BatchError(RuntimeError):
    """The batch cannot go on. What was written stays, and a later run goes on from there.

    `status`: the process's exit status: 2 the manifest or what was asked for is wrong, 3 the package fails, 4 a service fails.
    `at_item`: an item may be why, as one that takes more memory than there is; then this runner ended at it as one that died does.
    """

    def __init__(self, message: str, status: int = 2, *, at_item: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.at_item = at_item

    @property
    def is_final(self) -> bool:
        """Whether to run the same batch again would change nothing."""
        return self.status == 2
