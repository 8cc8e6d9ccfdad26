"""torchrun that ends as the tools do: 2 for a mistake and 128 + N at signal N, no traceback."""

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun


def main(argv: list[str] | None = None) -> int:
    try:
        torchrun(argv)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode != 2:
            raise
        return 2
    except SignalException as end:  # the processes have ended, or were killed after 30 s
        return 128 + end.sigval
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
