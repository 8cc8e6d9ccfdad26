model = dict(
    type='EncoderDecoder',
    backbone=dict(type='mmlolvit.LOLViT', arch='x', out_indices=(0, 1, 2, 3)),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[32, 80, 304, 432],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
