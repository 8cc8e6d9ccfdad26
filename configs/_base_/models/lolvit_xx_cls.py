_base_ = './lolvit_x_cls.py'

model = dict(backbone=dict(arch='xx'), head=dict(in_channels=352))
