from fastlstm._core.lstm cimport LSTMPlan
