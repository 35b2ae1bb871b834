//go:build lab

package modprobe

import (
	"os"
	"strings"
	"testing"
)

// TestRealLoad gives parameters to a module whose dependencies are loaded first.
func TestRealLoad(t *testing.T) {
	for range 2 { // the second finds it there
		if err := Load("ib-srpt", "srpt_service_guid=0x0000000000000101"); err != nil {
			t.Fatal(err)
		}
	}
	body, err := os.ReadFile("/sys/module/ib_srpt/parameters/srpt_service_guid")
	if err != nil || strings.TrimSpace(string(body)) != "0x0000000000000101" {
		t.Errorf("the parameter is %q, %v", body, err)
	}
	if _, err := os.Stat("/sys/module/rdma_cm"); err != nil {
		t.Errorf("a dependency is not there: %v", err)
	}
	if err := Load("crypto"); err != nil && !strings.Contains(err.Error(), "not in this image") {
		t.Error(err)
	}
}
