# 200 epochs, for 128 images a step; the cosine ends with train_cfg.max_epochs.
_base_ = './adamw.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=200, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=3, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=3, convert_to_iter_based=True
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=128)
