# The embedded handwritten digits, an ImageFolder that the tools build on first use.
data_root = 'data/digits'
embedded_data = dict(type='digits', data_root=data_root)
data_preprocessor = dict(
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

# magnitude_std='inf' draws each magnitude evenly from its range, in degrees and in parts of a side.
jitter = dict(magnitude_std='inf', prob=1.0, pad_val=0, interpolation='bilinear')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Rotate', magnitude_range=(0, 12), **jitter),
    dict(type='Translate', magnitude_range=(0, 0.1), direction='horizontal', **jitter),
    dict(type='Translate', magnitude_range=(0, 0.1), direction='vertical', **jitter),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
turns = [
    dict(type='Rotate', angle=angle, prob=1.0, random_negative_prob=0.0, interpolation='bilinear')
    for angle in (-6.0, 0.0, 6.0)
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[turns, [dict(type='PackInputs')]]),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='val', pipeline=test_pipeline
    ),
)
val_evaluator = dict(type='Accuracy', topk=1)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
