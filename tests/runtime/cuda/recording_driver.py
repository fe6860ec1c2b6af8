"""A driver that counts what is asked of it, around the one in use."""

from collections import Counter


class RecordingDriver:
    """Every call of a driver's method is counted by name, and its last arguments are kept;
    `launched` names the kernels, in order, with the streams that they went to."""

    def __init__(self, driver):
        self._driver = driver
        self.calls = Counter()
        self.arguments = {}
        self.launched = []

    def __getattr__(self, name):
        found = getattr(self._driver, name)
        if not callable(found):
            return found

        def counted(*args, **kwargs):
            self.calls[name] += 1
            self.arguments[name] = args
            if name == "launch":
                self.launched.append((args[0].kernel.name, args[2]))
            return found(*args, **kwargs)

        return counted

    def forget(self):
        self.calls.clear()
        self.launched.clear()
