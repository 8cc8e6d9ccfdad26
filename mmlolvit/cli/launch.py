"""torchrun that ends as the tool does which it started: 2, without a traceback, for a mistake."""

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
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
