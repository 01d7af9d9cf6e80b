"""Settings that several models share: fields of SolverParameter, and what their readmes say."""

MEAN_VALUE = [104.0, 117.0, 123.0]  # ImageNet's blue, green, red, as in Caffe's own models
# fields of SceneDataParameter in training
SHUFFLED = {"shuffle": True}
CLASS_AWARE = {"class_aware": True}
RELAY_PAPER = {
    "test_interval": 5000,
    "test_initialization": False,
    "base_lr": 0.01,
    "lr_policy": "multistep",
    "gamma": 0.1,
    "stepvalue": [320000, 560000, 720000],
    "max_iter": 800000,
    "momentum": 0.9,
    "weight_decay": 0.0002,
    "display": 20,
    "average_loss": 20,
    "snapshot": 20000,
    "iter_size": 8,  # times a batch of 32
}
IMAGENET = {**RELAY_PAPER, "test_iter": [1000]}  # 1000 x 50 = 50,000 validation images
PLACES2 = {**RELAY_PAPER, "test_iter": [401]}  # 401 x 50 = 20,050 validation images
RESNET_PAPER = {
    **IMAGENET,
    "base_lr": 0.1,
    "stepvalue": [150000, 300000, 450000],
    "max_iter": 600000,
    "weight_decay": 0.0001,
}
INCEPTION_PAPER = {
    "test_iter": [1000],
    "test_interval": 40036,  # an epoch of 1,281,167 images, 32 at a time
    "test_initialization": False,
    "type": "RMSProp",
    "rms_decay": 0.9,
    "delta": 1.0,
    "base_lr": 0.045,
    "lr_policy": "step",
    "gamma": 0.94,
    "stepsize": 80073,  # two epochs
    "max_iter": 50 * 80073,
    "weight_decay": 0.00004,
    "clip_gradients": 2.0,
    "display": 20,
    "average_loss": 20,
    "snapshot": 40036,
}

HEAD = """\
- **Branch:** GoogLeNet's auxiliary classifier: average pooling 5x5/3, 1x1 convolution 128, fc 1024,
  dropout 0.7, fc {classes}; with biases and without BatchNorm. Loss weight 0.3.
"""
INITIALISATION = """\
- **Initialisation:** MSRA. Only the scores of a network or branch without BatchNorm start from a
  Gaussian of 0.01: no ReLU follows them, and MSRA would spread them so far that the first updates
  may diverge. Biases learn at twice the rate, undecayed.
"""
PLATEAU = """\
  With `SET="lr_policy=plateau plateau_winsize=40000,40000,40000"` it is divided, up to three times,
  when the top-1 error of the TEST phase has had no new minimum for 40,000 iterations. An original
  Caffe lacks this policy.
"""
LEARNING = (
    """\
- **Learning rate:** 0.01, divided by 10 after 320,000, 560,000 and 720,000 of 800,000 iterations
  (40, 30, 20 and 10 % of the schedule), in place of the papers' "when the error plateaus".
"""
    + PLATEAU
    + INITIALISATION
)
UNNORMALISED = """\
- **Mini-batch 256:** 32 images x `iter_size` 8. Without BatchNorm it makes no difference how the
  mini-batch is cut.
- **Pixel scale:** `scale: 0.017`, about one over the pixels' standard deviation. MSRA
  initialisation carries the scale of the input to the scores, and from pixels of +-128 a network
  of this kind without BatchNorm diverges within a few updates.
"""
PLAIN = UNNORMALISED + LEARNING

TABLE_1 = """\
{dataset} validation error, single model, top-1 / top-5: {error} with standard BP (Shen et al.,
Table 1; one run). No figure is published for the other two methods with this network.
"""
MULTI_SCALE = """\
A "single model" is tested fully-convolutionally at several scales. The TEST phase measures a single
centre crop, whose error is some points higher.
"""
PYRAMID = """\
- **Pyramid:** poolings of kernel = stride = 14, 7, 5 and 2 (ceil of 14 over the bins) without
  padding, each flattened, concatenated in this order. `crop_size` 224 gives them their 14x14 map.
"""
