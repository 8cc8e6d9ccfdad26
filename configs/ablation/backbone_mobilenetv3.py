# MobileNetV3-small, up to its last map, in LOLViT's place.
_base_ = '../cls/lolvit_x_cue_far.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='mobilenetv3_small_100',
        features_only=True,
        out_indices=(4,),
    ),
    head=dict(in_channels=576),
)
