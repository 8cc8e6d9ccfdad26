# For ablations on a CPU: the smallest net, 5 epochs.
_base_ = './retinanet_lolvit_x_digits.py'

model = dict(backbone=dict(arch='xx'), neck=dict(in_channels=[64, 192, 352]))
train_cfg = dict(max_epochs=5, val_interval=5)
