"""Checkpoints that are there whole or not at all, and none that goes before the next is safe."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from ..errors import UserError
from .resume import unfinished_gradients

INTERRUPTED = 'interrupted.pth'  # what a training that was asked to end saves
UNFINISHED = '.unfinished'  # ends the name of a file that is being written


def write_safely(path: str | os.PathLike, content: bytes) -> None:
    """Write a file that appears whole, on the disk, or not at all.

    A zip archive, as PyTorch's checkpoints are, is compared with its checksums before it takes its
    place. Raises UserError where it cannot be written; what was there before then stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}{UNFINISHED}')
    try:
        with open(part, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if zipfile.is_zipfile(part):
            with zipfile.ZipFile(part) as archive:
                if wrong := archive.testzip():
                    raise OSError(f'what was read back differs, in {wrong}')
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UserError(
            f'{path} cannot be written: {reason}; what was saved before is as it was. Make room or '
            'mend the disk, and go on with --resume'
        ) from error


def _sync_folder(folder: Path) -> None:
    """Have the disk know a file's new name too, where the system can."""
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class SafeBackend(LocalBackend):
    """MMEngine's files on the local disk, written by `write_safely`."""

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        write_safely(filepath, obj)

    def put_text(self, obj: str, filepath: str | os.PathLike, encoding: str = 'utf-8') -> None:
        write_safely(filepath, obj.encode(encoding))


def use_safe_files() -> None:
    """Let all of MMEngine write local files by `write_safely`."""
    register_backend('local', SafeBackend, force=True, prefixes='')


def require_folder(folder: str) -> None:
    """Raise UserError where the folder of the checkpoints has gone, and they with it."""
    if not Path(folder).is_dir():
        raise UserError(
            f'the folder {folder} is gone, and the checkpoints in it: training ends, for nothing '
            'could be saved; see who removes it, or whether its disk is mounted'
        )


class _Later:
    """A file backend that keeps what it is told to remove, until `remove_now`."""

    def __init__(self, backend):
        self._backend, self._removals = backend, []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._removals.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self._removals.append((self._backend.rmtree, path))

    def remove_now(self, kept: set[str]) -> None:
        for remove, path in self._removals:
            if path not in kept:
                remove(path)


class SafeCheckpointHook(CheckpointHook):
    """MMEngine's hook, which removes an old checkpoint before it saves the new; this one after.

    At its start it also removes what a process that was killed left behind: files half written, and
    checkpoints that were to be removed.
    """

    saved = None  # the last file of this training
    validated = False  # whether what is saved has been validated

    def before_train(self, runner) -> None:
        info = runner.message_hub.runtime_info
        if 'keep_ckpt_ids' in info:
            info['keep_ckpt_ids'] = [n for n in info['keep_ckpt_ids'] if isinstance(n, int)]
        super().before_train(runner)
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._own(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._own(path)
        self._clean()

    def _own(self, path: str | None) -> str | None:
        """The file in this work dir that a checkpoint calls the best, which a better one removes.

        The checkpoint may come from another work dir, or from a stranger.
        """
        name = os.path.basename(str(path))
        own = self.file_backend.join_path(self.out_dir, name)
        return own if name.startswith('best_') and self.file_backend.isfile(own) else None

    @master_only
    def _clean(self) -> None:
        folder = Path(self.out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(f'.*{UNFINISHED}'):
            part.unlink(missing_ok=True)
        kept = getattr(self, 'keep_ckpt_ids', ())
        if 0 < len(kept) == self.max_keep_ckpts:
            outdated = self.filename_tmpl.format(kept[0] - self.interval)
            (folder / outdated).unlink(missing_ok=True)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        backbone = getattr(getattr(runner.model, 'module', runner.model), 'backbone', None)
        checkpoint['meta']['norm_eval'] = bool(getattr(backbone, 'norm_eval', False))
        checkpoint['meta']['validated'] = self.validated

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        require_folder(self.out_dir)
        runner.gradients = unfinished_gradients(runner)
        with self._removing_last():
            super()._save_checkpoint_with_step(runner, step, meta)
        self.saved = self.last_ckpt
        self._remove_interrupted(runner.work_dir)

    def _save_best_checkpoint(self, runner, metrics) -> None:
        self.validated = True
        with self._removing_last():
            super()._save_best_checkpoint(runner, metrics)
        self.validated = False

    @master_only
    def _remove_interrupted(self, folder: str) -> None:
        (Path(folder) / INTERRUPTED).unlink(missing_ok=True)

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        if isinstance(self.file_backend, _Later):  # the best one saves the last again
            yield
            return
        backend, self.file_backend = self.file_backend, _Later(self.file_backend)
        try:
            yield
            best = getattr(self, 'best_ckpt_path_dict', {}).values()
            self.file_backend.remove_now({*best, getattr(self, 'best_ckpt_path', None)})
        finally:
            self.file_backend = backend
