model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmlolvit.LOLViT', arch='x'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=432,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
