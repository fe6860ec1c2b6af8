"""A driver that counts what is asked of it, around the one in use."""

from collections import Counter


class RecordingDriver:
    """Every call of a driver's method is counted by name, and its last arguments are kept in
    `last`; an array made by a `maker` counts as `empty`. `queue` names the kernels, in order, with
    the streams that they went to."""

    def __init__(self, driver):
        self._driver = driver
        self.calls = Counter()
        self.last = {}
        self.queue = []

    def maker(self, shape, dtype):
        make = self._driver.maker(shape, dtype)

        def counted(stream):
            self.calls["empty"] += 1
            return make(stream)

        return counted

    def launched(self, description):
        self._queued(description.split()[1], self._driver.current_stream())
        return self._driver.launched(description)

    def launch(self, function, pointers, stream):
        self._queued(function.kernel.name, stream)
        return self._driver.launch(function, pointers, stream)

    def _queued(self, name, stream):
        self.queue.append((name, stream))

    def __getattr__(self, name):
        found = getattr(self._driver, name)
        if not callable(found):
            return found

        def counted(*args, **kwargs):
            self.calls[name] += 1
            self.last[name] = args
            return found(*args, **kwargs)

        return counted

    def forget(self):
        self.calls.clear()
        self.queue.clear()
