_base_ = [
    '../_base_/models/lolvit_s_cls.py',
    '../_base_/datasets/imagenet_256.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/cls_runtime.py',
]
