# One cycle of 1,500 iterations, for the embedded scenes.
_base_ = './adamw.py'

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1500, val_interval=1500)
param_scheduler = dict(type='OneCycleLR', eta_max=8e-3, by_epoch=False, total_steps=1500)
