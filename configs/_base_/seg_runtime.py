_base_ = './default_runtime.py'

default_scope = 'mmseg'
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=4000, save_best='mIoU'),
    logger=dict(log_metric_by_epoch=False),
    visualization=dict(type='SegVisualizationHook', draw=False),
)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_processor = dict(by_epoch=False)
tta_model = dict(type='SegTTAModel')
sync_bn = 'torch'  # batches are small: BatchNorm over all GPUs; docs/distributed.md
