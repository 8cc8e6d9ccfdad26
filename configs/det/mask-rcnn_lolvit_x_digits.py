_base_ = [
    '../_base_/models/mask-rcnn_lolvit_x.py',
    '../_base_/datasets/scenes_det.py',
    '../_base_/schedules/adamw_onecycle.py',
    '../_base_/det_runtime.py',
]

# A neck and heads of a quarter of the width and fewer proposals, for small pictures of few classes.
width = 64
model = dict(
    neck=dict(out_channels=width, norm_cfg=dict(type='BN')),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(num_classes=10, in_channels=width, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(num_classes=10, num_convs=2, in_channels=width, conv_out_channels=width),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=400, max_per_img=200), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=400, max_per_img=200)),
)
train_cfg = dict(max_epochs=6, val_interval=3)
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
