package main

// suites lists all that can be measured, in the order in which it is.
func suites() []suite {
	return []suite{
		{ids: []string{"P6-call", "P6-call-16"}, run: measureCalls},
		{ids: []string{"P10-size"}, run: measureImage},
		{ids: []string{"P10-boot"}, run: measureBoot},
		{ids: []string{"P6-cpu-start", "P6-cpu-run"}, run: measureCPU},
	}
}
