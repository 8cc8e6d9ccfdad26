# The embedded partners as masks in BDD100K's folders, built by the tools on first use. Nothing is
# cropped, for a digit's partner may be anywhere.
_base_ = './scenes_seg.py'

data_root = 'data/partners'
embedded_data = dict(type='partners', data_root=data_root)
metainfo = dict(_delete_=True, classes=('ground', 'partner'), palette=[[40, 40, 40], [230, 25, 75]])
# As in the scenes: more weight for what is to be found.
loss_decode = [
    dict(type='mmlolvit.WeightedCrossEntropy', class_weight=[0.2, 1.0]),
    dict(type='DiceLoss', use_sigmoid=False, ignore_index=0, loss_weight=4.0),
]
data_preprocessor = dict(size=(64, 640))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_pipeline = test_pipeline = pipeline
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=f, keep_ratio=True) for f in (0.75, 1.0, 1.25)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
dataset = dict(data_root=data_root, metainfo=metainfo, pipeline=pipeline)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
del dataset
