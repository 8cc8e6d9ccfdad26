"""torchrun that ends as the tools do: 2 for a mistake and 128 + N at signal N, no traceback."""

from signal import SIGINT, SIGTERM

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

EXPECTED = (2, 128 + SIGINT, 128 + SIGTERM)  # of one process: a mistake, or a signal to it alone


def main(argv: list[str] | None = None) -> int:
    try:
        torchrun(argv)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in EXPECTED:
            raise
        return failure.exitcode
    except SignalException as end:  # the processes have ended, or were killed after 30 s
        return 128 + end.sigval
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
