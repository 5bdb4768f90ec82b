"""Maps the repository root to the package `leakgauge` (DESIGN 2); everything else is in pyproject.toml."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ["audit", "trainers", "attacks", "benchmarks", "reports"]


class BuildWithoutSetup(build_py):
    """The root is a package, so its loose scripts would be shipped as modules: keep only `__init__.py`."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Modules of a package, without the root's loose scripts."""
        modules = super().find_package_modules(package, package_dir)
        return [m for m in modules if package != "leakgauge" or m[1] in {"__init__", "__main__"}]


setup(
    packages=["leakgauge"]
    + [f"leakgauge.{p}" for p in find_packages(".", include=[g for f in FOLDERS for g in (f, f"{f}.*")])],
    package_dir={"leakgauge": "."},
    cmdclass={"build_py": BuildWithoutSetup},
)
