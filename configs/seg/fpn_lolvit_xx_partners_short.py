# For ablations on a CPU: the smallest net, 600 iterations.
_base_ = './fpn_lolvit_x_partners.py'

model = dict(backbone=dict(arch='xx'), neck=dict(in_channels=[24, 64, 192, 352]))
train_cfg = dict(max_iters=600, val_interval=600)
param_scheduler = dict(total_steps=600)
