package proxy

// A step of a real agent takes more than images of tests need to have, whose every byte is read many times.
func init() { fillStep = 8 << 20 }

// SetFillStep makes steps of filling smaller, until what it gives is called.
func SetFillStep(bytes int64) (restore func()) {
	was := fillStep
	fillStep = bytes
	return func() { fillStep = was }
}
