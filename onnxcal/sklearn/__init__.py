"""From a fitted scikit-learn classifier to a calibrated ONNX file that was held against scikit-learn itself.

::

    onnxcal.sklearn.export_calibrated(classifier, X_valid, y_valid, "out.onnx")  # fits T
    onnxcal.sklearn.export(CalibratedClassifierCV(...).fit(X, y), X, "out.onnx")  # keeps the T that it has

skl2onnx converts, `onnxcal.calibrate` and `onnxcal.patch` do the rest, in memory. LightGBM's and XGBoost's classifiers
go the same way (onnxmltools), alone or in a pipeline. Needs ``pip install 'onnxcal[sklearn]'``.
"""

from onnxcal.sklearn.export import export, export_calibrated

__all__ = ["export", "export_calibrated"]
