"""A process of its own for each model: what dies in one does not take the others with it.

Requests come as lines of JSON on stdin, replies go as lines of JSON to stdout.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ..analysis import complexity
from ..errors import UserError

TURN = 0.05  # seconds that a model runs for before a run counts, at least one run


class Died(Exception):
    """A request that the model did not survive, or could not fulfil."""


class Worker:
    """The process that runs one model.

    Args:
        name (str): Of the model, as `models.build` takes it.
        threads (int): Of the CPU.
    """

    def __init__(self, name: str, threads: int):
        self.name, self.threads = name, threads
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = None

    def ask(self, **request) -> dict:
        """The reply to a request; starts the process if there is none."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'mmlolvit.benchmark.worker', self.name, str(self.threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                env=os.environ | {'OMP_NUM_THREADS': str(self.threads)},
            )
        try:
            self.process.stdin.write(json.dumps(request) + '\n')
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ''
        if not line:
            raise Died(self._last_words())
        reply = json.loads(line)
        if 'error' in reply:
            raise Died(reply['error'])
        return reply

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(BrokenPipeError):  # what the process did not read
                self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def _last_words(self) -> str:
        code = self.process.wait()
        self.close()
        if code < 0:
            return f'its process was killed by signal {-code}'
        self.log.seek(0)
        lines = self.log.read().decode(errors='replace').split('\n')
        return next((line for line in reversed(lines) if line.strip()), f'exit code {code}')


class _Model:
    def __init__(self, name: str):
        self.name = name
        self.prepared = {}

    def load(self, key, runtime, device, precision, mode, batch, size) -> dict:
        from .models import build
        from .runtimes import RUNTIMES

        training = mode == 'training'
        subject = build(self.name, training)
        x = torch.randn(batch, 3, *size).to(device)
        # Fake tensors compute nothing, so that no product of a large map needs its memory.
        with FakeTensorMode(allow_non_fake_inputs=True):
            cost = complexity(subject.counted, torch.empty(1, 3, *size))['total']
        subject.net.to(device)
        prepared = RUNTIMES[runtime](subject, x, precision, training)
        self.prepared[key] = prepared.run, x.device
        return dict(
            layout=prepared.layout,
            memory=prepared.memory,
            parameters=cost.parameters,
            macs=cost.macs,
            activations=cost.activations,
        )

    def run(self, key) -> dict:
        from .runtimes import timed

        run, device = self.prepared[key]
        spent = 0.0
        while spent < TURN:
            spent += timed(run, device)
        return dict(seconds=timed(run, device))

    def drop(self) -> dict:
        self.prepared.clear()
        torch._dynamo.reset()
        return {}


def main() -> None:
    replies = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # libraries print what is no reply
    name, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = _Model(name)
    for line in sys.stdin:
        request = json.loads(line)
        command = getattr(model, request.pop('command'))
        try:
            reply = command(**request)
        except UserError as error:
            reply = dict(error=str(error))
        except Exception as error:
            text = str(error).strip().split('\n')[0]
            reply = dict(error=f'{type(error).__name__}: {text}')
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == '__main__':
    main()
