package proxy

// SetFillStep makes steps of filling smaller, until what it gives is called.
func SetFillStep(bytes int64) (restore func()) {
	was := fillStep
	fillStep = bytes
	return func() { fillStep = was }
}
