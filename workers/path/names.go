package path

import (
	"strings"

	"cloudengine/events"
	"cloudengine/workers/dm"
)

// Beginnings of names and of device-mapper UUIDs. What bears another UUID is not ours, whatever its name.
const (
	namePrefix   = "ce-"
	mapPrefix    = "ce-mp-"
	volumeUUID   = "CE-volume-"
	mapUUID      = "CE-paths-"
	mapperDir    = dm.Dir + "/"
	sectorsInMiB = 1 << 20 / dm.SectorSize
)

// MapName names the multipath map of an array.
func MapName(id events.ArrayID) string { return mapPrefix + string(id) }

// MapUUID is the map's UUID for device-mapper.
func MapUUID(id events.ArrayID) string { return mapUUID + string(id) }

// VolumeName names the device of a volume, below /dev/mapper too.
func VolumeName(id events.VolumeID) string { return namePrefix + string(id) }

// VolumeUUID is the device's UUID for device-mapper: Xen's script for block devices insists on it.
func VolumeUUID(id events.VolumeID) string { return volumeUUID + string(id) }

// VolumePath is where the block device of a volume lies.
func VolumePath(id events.VolumeID) string { return mapperDir + VolumeName(id) }

// VolumeOfPath gives the volume whose device lies at a path; ok is false for every other path.
func VolumeOfPath(p string) (id events.VolumeID, ok bool) {
	name, ok := strings.CutPrefix(p, mapperDir+namePrefix)
	if !ok || name == "" || strings.ContainsAny(name, "/") || strings.HasPrefix(p, mapperDir+mapPrefix) {
		return "", false
	}
	return events.VolumeID(name), true
}

// volumeOf gives the volume that a device is of, by its UUID.
func volumeOf(uuid string) (events.VolumeID, bool) {
	id, ok := strings.CutPrefix(uuid, volumeUUID)
	return events.VolumeID(id), ok
}

// arrayOf gives the array that a map is of, by its UUID.
func arrayOf(uuid string) (events.ArrayID, bool) {
	id, ok := strings.CutPrefix(uuid, mapUUID)
	return events.ArrayID(id), ok
}
