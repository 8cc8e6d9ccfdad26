# For ablations on a CPU: the smallest net, 8 epochs.
_base_ = './retinanet_lolvit_x_digits.py'

model = dict(backbone=dict(arch='xx'), neck=dict(in_channels=[64, 192, 352]))
train_cfg = dict(max_epochs=8, val_interval=8)
