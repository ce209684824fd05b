"""How many parameters an LSTM layer has: by the formula, and as the layer counts them."""

from fastlstm.layers import LSTM


def formula(features, units):
    """Four gates, each with a weight for every feature and every unit, and a bias."""
    return 4 * ((features + units) * units + units)


def counted(features, units):
    layer = LSTM(units)
    layer.build((None, 10, features))
    return layer.count_params()


if __name__ == "__main__":
    print("features  units    formula      layer")
    for features, units in [(1, 5), (2, 128), (128, 64), (64, 64), (64, 128), (300, 128)]:
        print(
            f"{features:8}  {units:5}  {formula(features, units):9,}  {counted(features, units):9,}"
        )
    # Neither the batch size nor the number of steps enters: all steps share one set of weights.
