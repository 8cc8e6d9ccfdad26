_base_ = './lolvit_x_cls.py'

model = dict(backbone=dict(arch='s'), head=dict(in_channels=608))
