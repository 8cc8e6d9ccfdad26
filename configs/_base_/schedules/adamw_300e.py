# For 1,024 images a step; the cosine ends with train_cfg.max_epochs.
_base_ = './adamw.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=20,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    dict(
        type='mmengine.EMAHook',
        ema_type='ExponentialMovingAverage',
        momentum=1e-4,
        update_buffers=True,  # BatchNorm statistics too
        priority='ABOVE_NORMAL',
    )
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
