package workertest_test

import (
	"testing"

	"cloudengine/workers/workertest"
)

func TestModelPassesTheSuite(t *testing.T) {
	h := workertest.NewHost(1024)
	workertest.Suite(t.Context(), t, h, h, workertest.Guests{Kernel: "k", Ramdisk: "r", BzImage: "k", Disk: workertest.DevicePath("suite")})
	if twice := h.Twice(); len(twice) != 0 {
		t.Fatal(twice)
	}
	if free, err := h.Info(t.Context()); err != nil || free.FreeMiB != 1024 {
		t.Fatalf("memory was lost: %+v, %v", free, err)
	}
}
