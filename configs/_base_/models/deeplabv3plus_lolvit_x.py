model = dict(
    type='EncoderDecoder',
    backbone=dict(type='mmlolvit.LOLViT', arch='x', out_indices=(0, 3)),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=432,
        in_index=1,
        channels=256,
        dilations=(1, 3, 6, 9),  # a map of 16 x 32 has no room for the usual 12, 24 and 36
        c1_in_channels=32,
        c1_channels=48,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
