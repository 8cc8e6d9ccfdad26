_base_ = './ssdlite_lolvit_x_coco.py'

widths = (192, 352, 512, 256, 256, 128)
model = dict(
    backbone=dict(arch='xx'),
    neck=dict(in_channels=widths[:2], out_channels=widths),
    bbox_head=dict(in_channels=widths),
)
