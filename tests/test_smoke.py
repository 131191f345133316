def test_smoke(cli, tmp_path):
    r = cli("demo", tmp_path / "d")
    assert r.exit_code == 0 and "PASSED" in r.stdout
    r = cli("inspect", tmp_path / "nope.onnx")
    assert r.exit_code == 2 and r.stderr.startswith("onnxcal: error:")
    r = cli("inspect", tmp_path / "d/digits.onnx", "--json")
    print(r.stdout)
