"""Logged values that a training keeps in memory, and in each checkpoint, without end."""

from mmengine.hooks import Hook

KEPT = 20_000  # of each loss, time and rate: more than any mean is taken over


class BoundedHistory(Hook):
    """Lets MMEngine keep the last values alone, of a million; each step copies what is kept.

    The log files have them all.
    """

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, 1000):
            for buffer in runner.message_hub.log_scalars.values():
                buffer.max_length = KEPT
