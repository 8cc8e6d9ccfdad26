# 12 epochs, for 16 images a step.
_base_ = './adamw.py'

optim_wrapper = dict(optimizer=dict(lr=2e-4), clip_grad=dict(max_norm=10.0))
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=500),
    dict(type='MultiStepLR', milestones=[8, 11], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
