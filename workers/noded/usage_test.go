package main

import "testing"

func TestDomainTimes(t *testing.T) {
	const list = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n" +
		"Domain-0                                     0  1024     2     r-----      14.2\n" +
		"web1-1c5f00d1                                3   128     1     -b----       1.5\n" +
		"(null)                                       4     0     1     --ps-d       0.5\n"
	dom0, guests, err := domainTimes(list)
	if err != nil || dom0 != 14200 || guests != 2000 {
		t.Errorf("dom0 %d ms, guests %d ms, %v", dom0, guests, err)
	}
	for _, bad := range []string{"Name ID\nx 1\n", "h\na 0 1 1 r----- many\n"} {
		if _, _, err := domainTimes(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
