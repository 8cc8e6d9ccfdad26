# 80,000 iterations, for 16 images a step.
_base_ = './adamw.py'

optim_wrapper = dict(optimizer=dict(lr=4e-4))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=1500, end=80000),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
