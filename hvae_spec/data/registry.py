"""The published data sets: their files, where these can be had, and the digests that show whether they are genuine.

Of `chardata.mat` and `frey_rawface.mat` no SHA-256 is published; their MD5 are those of public loaders. Only MNIST has
mirrors: each other file is on a single host, all but OMNIGLOT's under two addresses, the second without TLS.
"""

from hvae_spec.data.cache import Source


def _mnist(name: str, download: str, content: str) -> Source:
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    urls = tuple(f"{mirror}{name}.gz" for mirror in mirrors)
    return Source("mnist", f"{name}.gz", urls, f"sha256:{download}", f"sha256:{content}")


def _norb(name: str, download: str, content: str) -> Source:
    addresses = (
        "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
        "http://www.cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
    )
    urls = tuple(f"{address}smallnorb-{name}.mat.gz" for address in addresses)
    return Source("norb", f"smallnorb-{name}.mat.gz", urls, f"sha256:{download}", f"md5:{content}")


def _mnist_static(part: str, download: str) -> Source:
    addresses = ("https://www.cs.toronto.edu", "http://www.cs.toronto.edu")
    name = f"binarized_mnist_{part}.amat"
    urls = tuple(f"{address}/~larocheh/public/datasets/binarized_mnist/{name}" for address in addresses)
    return Source("mnist_static", name, urls, f"sha256:{download}")


SOURCES: dict[str, tuple[Source, ...]] = {
    # Training images, training labels, test images, test labels.
    "mnist": (
        _mnist(
            "train-images-idx3-ubyte",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _mnist(
            "train-labels-idx1-ubyte",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        _mnist(
            "t10k-images-idx3-ubyte",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    # Training, validation and test images. The SHA-256 are those of tensorflow/datasets.
    "mnist_static": (
        _mnist_static("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        _mnist_static("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        _mnist_static("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    ),
    "omniglot": (
        Source(
            "omniglot",
            "chardata.mat",
            ("https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",),
            "md5:21ecaf34373511aa7691cf2e0802aa3d",
        ),
    ),
    # The downloads' SHA-256 are those of tensorflow/datasets, the contents' MD5 those of public PyTorch loaders.
    "norb": (
        _norb(
            "5x46789x9x18x6x2x96x96-training-dat",
            "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
            "8138a0902307b32dfa0025a36dfa45ec",
        ),
        _norb(
            "5x46789x9x18x6x2x96x96-training-cat",
            "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
            "fd5120d3f770ad57ebe620eb61a0b633",
        ),
        _norb(
            "5x01235x9x18x6x2x96x96-testing-dat",
            "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
            "e9920b7f7b2869a8f1a12e945b2c166c",
        ),
        _norb(
            "5x01235x9x18x6x2x96x96-testing-cat",
            "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
            "fd5120d3f770ad57ebe620eb61a0b633",
        ),
    ),
    "frey": (
        Source(
            "freyfaces",
            "frey_rawface.mat",
            (
                "https://cs.nyu.edu/~roweis/data/frey_rawface.mat",
                "http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat",
            ),
            "md5:5aeb024d42b8a6091f30e5eb18c8a48d",
        ),
    ),
}
"""The files of each data set in the order in which its loader takes them. `digits` has none: scikit-learn brings it."""
