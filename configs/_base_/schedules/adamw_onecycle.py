# The cycle's length is train_cfg.max_epochs.
_base_ = './adamw.py'

train_cfg = dict(max_epochs=15)
param_scheduler = dict(type='OneCycleLR', eta_max=2e-3, by_epoch=True, convert_to_iter_based=True)
