package schemas_test

import "maps"

const (
	imageVersion = "7888878055d9424a"
	partJSON     = `{"name":"initrd.img","size":12288724,"sha256":"` + digest + `"}`
)

func init() {
	maps.Copy(good, map[string][]string{
		"bootimage.register": {
			`{"name":"november","manifest":{"version":"` + imageVersion + `","kernel":"6.1.0-56-amd64","packages":[{"name":"libc6","version":"2.36","sha256":"` + digest +
				`"}],"tools":[{"name":"go","version":"go1.26"}],"parts":[` + partJSON + `],"contents":[{"name":"libc6","files":2,"size":9}]}}`,
			`{"manifest":{"version":"` + imageVersion + `","kernel":"6","packages":[],"tools":[],"parts":[` + partJSON + `]}}`,
		},
		"bootimage.remove":      {`{"bootimage":"` + imageVersion + `"}`},
		"bootimage.set_default": {`{"bootimage":"` + imageVersion + `"}`},
		"machine.set_image":     {`{"machine":"` + machineID + `","image":"` + imageVersion + `"}`, `{"machine":"` + machineID + `"}`},
		"discovered.drop":       {`{"discovered":"525400770009"}`},
	})
}
