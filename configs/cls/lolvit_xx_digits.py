_base_ = [
    '../_base_/models/lolvit_xx_cls.py',
    '../_base_/datasets/digits_64.py',
    '../_base_/schedules/adamw_onecycle.py',
    '../_base_/cls_runtime.py',
]

model = dict(head=dict(num_classes=10))
