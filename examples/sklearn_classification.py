"""Read handwritten digits row by row: each image is a sequence of 8 rows of 8 pixels."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastlstm.integrations.sklearn import LSTMClassifier


def main():
    images, digits = load_digits(return_X_y=True)
    rows = images.reshape(-1, 8, 8) / 16
    train, test, train_digits, test_digits = train_test_split(
        rows, digits, test_size=0.25, stratify=digits, random_state=0
    )
    classifier = LSTMClassifier(units=48, epochs=40, random_state=0).fit(train, train_digits)
    print(f"{len(train)} images to learn from, {classifier.n_iter_} epochs")
    print(f"right for {classifier.score(test, test_digits):.1%} of {len(test)} others")
    sure = classifier.predict_proba(test).max(axis=1)
    doubtful = sure.argmin()
    print(
        f"least sure ({sure[doubtful]:.0%}) of a {test_digits[doubtful]}, "
        f"read as {classifier.predict(test[doubtful : doubtful + 1])[0]}"
    )


if __name__ == "__main__":
    main()
