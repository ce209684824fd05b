"""Find the sunspot cycles that are least like the others, with an LSTM autoencoder."""

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from fastlstm.demo import load_sunspots
from fastlstm.integrations.sklearn import LSTMAutoencoderDetector

YEARS = 11


def main():
    years, numbers = load_sunspots()
    cycles = np.lib.stride_tricks.sliding_window_view(numbers, YEARS)
    detector = make_pipeline(
        FunctionTransformer(np.sqrt),
        LSTMAutoencoderDetector(contamination=0.03, units=8, epochs=60, random_state=0),
    )
    scores = detector.fit(cycles).score_samples(cycles)
    print(f"{(detector.predict(cycles) == -1).sum()} of {len(cycles)} stretches of {YEARS} years")
    print("are outliers; the five least likely begin in")
    for start in np.argsort(scores)[:5]:
        print(f"{years[start]:.0f}, with up to {cycles[start].max():.0f} spots a year")


if __name__ == "__main__":
    main()
